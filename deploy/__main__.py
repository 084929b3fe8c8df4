"""`python -m deploy deploy | api-key | destroy`: what `make` calls for a stage of samconfig.toml."""

import argparse
import subprocess
import sys
from dataclasses import replace

from botocore.exceptions import BotoCoreError, ClientError

from deploy.stage import Stage, StageError
from sandkeeper.errors import SandkeeperError


def main() -> int:
    asked = _arguments().parse_args()
    try:
        stage = Stage.named(asked.stage)
        if asked.stack:
            stage = replace(stage, stack_name=asked.stack)
        _do(asked, stage)
    except (StageError, SandkeeperError) as error:
        print(error, file=sys.stderr)
        return 2
    except (BotoCoreError, ClientError) as error:
        print(f"AWS: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode  # the SAM CLI has said why
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    stages = argparse.ArgumentParser(add_help=False)
    stages.add_argument("--stage", default="default", help="environment of samconfig.toml")
    stages.add_argument("--stack", default="", help="another stack than the stage's")

    delivery = commands.add_parser("deploy", parents=[stages], help="build and deploy")
    delivery.add_argument("--yes", action="store_true", help="do not ask before the change")

    keys = commands.add_parser("api-key", parents=[stages], help="give, revoke or list API keys")
    keys.add_argument("--table", default="", help="another table than the stack's")
    keys.add_argument("--owner", default="", help="give a key that speaks for this owner")
    keys.add_argument("--name", default="", help="what to call it in the list")
    keys.add_argument("--revoke", default="", help="take a key back, named by its id or by itself")

    removal = commands.add_parser("destroy", parents=[stages], help="remove the stack")
    removal.add_argument("--data", choices=["keep", "delete"], default="keep", help="what becomes of its data")
    removal.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _do(asked: argparse.Namespace, stage: Stage) -> None:
    match asked.command:
        case "deploy":
            from deploy.delivery import deploy  # noqa: PLC0415 - each command loads what it needs

            deploy(stage, unasked=asked.yes)
        case "api-key":
            from deploy import keys  # noqa: PLC0415

            table = asked.table or stage.deployed()["TableName"]
            found = keys.api_keys(stage.session().client("dynamodb"), table)
            if asked.revoke:
                keys.revoke(found, asked.revoke)
            elif asked.owner:
                keys.give(found, asked.owner, asked.name)
            else:
                keys.show(found.all())
        case "destroy":
            from deploy.removal import destroy  # noqa: PLC0415

            destroy(stage, with_data=asked.data == "delete", unasked=asked.yes)


if __name__ == "__main__":
    sys.exit(main())
