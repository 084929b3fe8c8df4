"""What the wiring makes clients of AWS from."""

import pytest

from sandkeeper.wiring import ApiWiring

BUCKET = "sandkeeper-0"


def upload_url(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """Returns where a file of a function with this environment is uploaded to."""
    access = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-central-1"}
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in {**access, **environment}.items():
        monkeypatch.setenv(name, value)
    url: str = ApiWiring().s3.generate_presigned_post(BUCKET, "key")["url"]
    return url


def test_buckets_are_called_by_the_name_that_they_have_in_their_region(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upload_url(monkeypatch) == f"https://{BUCKET}.s3.eu-central-1.amazonaws.com/"


def test_at_another_endpoint_no_name_is_made_up_for_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sam local invoke` reaches the local stack as host.docker.internal, below which there are no names."""
    endpoint = "http://host.docker.internal:8020"
    assert upload_url(monkeypatch, AWS_ENDPOINT_URL=endpoint) == f"{endpoint}/{BUCKET}"
