"""The outside world behind the ports. An adapter gets ready clients, reads no environment, and maps every
foreign error to ours in one table."""
