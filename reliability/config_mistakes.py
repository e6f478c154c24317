"""Keys in the configuration by mistake: each way to write one down there, and all that the commands then say.

It knows files, flags and variables; which secret it is, the caller says.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from click.testing import CliRunner

from insource.cli.main import DEBUG, cli
from insource.config.given import Given
from insource.errors import InsourceError
from insource.policy.egress import open_upstreams

_UPSTREAM = '[upstreams.main]\nbase_url = "https://api.example.com/v1"\n'
_TASK = "[tasks.triage]\n"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A file's text, a variable or the address for --upstream, each with SECRET where the secret goes."""

    text: str = _UPSTREAM
    variable: str | None = None
    value: str = "SECRET"
    upstream: str | None = None


MISTAKES: Mapping[str, Mistake] = {
    "api_key": Mistake(_UPSTREAM + 'api_key = "SECRET"\n'),
    "key": Mistake(_UPSTREAM + 'key = "SECRET"\n'),
    "api_key_env": Mistake(_UPSTREAM + 'api_key_env = "SECRET"\n'),
    "token": Mistake(_UPSTREAM + 'token = "SECRET"\n'),
    "authorization": Mistake(_UPSTREAM + 'authorization = "Bearer SECRET"\n'),
    "headers": Mistake(_UPSTREAM + '[upstreams.main.headers]\nauthorization = "Bearer SECRET"\n'),
    "user in base_url": Mistake('[upstreams.main]\nbase_url = "https://user:SECRET@api.example.com/v1"\n'),
    "query of base_url": Mistake('[upstreams.main]\nbase_url = "https://api.example.com/v1?key=SECRET"\n'),
    "no scheme": Mistake('[upstreams.main]\nbase_url = "user:SECRET@api.example.com"\n'),
    "key_header": Mistake(_UPSTREAM + 'key_header = "SECRET"\n'),
    "section": Mistake('[upstreams."SECRET"]\nbase_url = "https://api.example.com/v1"\n'),
    "top": Mistake('OPENAI_API_KEY = "SECRET"\n' + _UPSTREAM),
    "as a name": Mistake(_UPSTREAM + 'SECRET = "openai"\n'),
    "match.header": Mistake(_UPSTREAM + _TASK + '[tasks.triage.match]\nheader = { authorization = "Bearer SECRET" }\n'),
    "default_upstream": Mistake('[gateway]\ndefault_upstream = ["SECRET"]\n' + _UPSTREAM),
    "policy": Mistake(_UPSTREAM + '[policy]\nrestricted.upstreams = ["SECRET"]\n'),
    "not closed": Mistake(_UPSTREAM + 'api_key = "SECRET\n'),
    "not quoted": Mistake(_UPSTREAM + "api_key = SECRET\n"),
    "twice": Mistake(_UPSTREAM + 'api_key_env = "A"\napi_key_env = "SECRET"\n'),
    "port": Mistake('[gateway]\nport = "SECRET"\n' + _UPSTREAM),
    "variable of another": Mistake(variable="INSOURCE_GATEWAY_PORT"),
    "variable host": Mistake(variable="INSOURCE_GATEWAY_HOST"),
    "variable of no setting": Mistake(variable="INSOURCE_GATEWAY_KEY"),
    "key with a line break": Mistake(_UPSTREAM + 'api_key_env = "X2_PLANTED"\n', "X2_PLANTED", "SECRET\nmore"),
    "key with a blank": Mistake(_UPSTREAM + 'api_key_env = "X2_PLANTED"\n', "X2_PLANTED", " SECRET"),
    "key in use": Mistake(_UPSTREAM + 'api_key_env = "X2_PLANTED"\n', "X2_PLANTED"),
    "--upstream": Mistake(upstream="https://user:SECRET@api.example.com/v1"),
}  # fmt: skip


def said_of(mistake: Mistake, secret: str, folder: Path) -> bytes:
    """Return all that the commands, and the beginning of `insource serve`, say of the mistake, tracebacks included."""
    folder.mkdir(parents=True)
    file = folder / "insource.toml"
    file.write_text(mistake.text.replace("SECRET", secret), "utf-8")
    variables = {mistake.variable: mistake.value.replace("SECRET", secret)} if mistake.variable else {}
    variables |= {DEBUG: "1", "INSOURCE_HOME": str(folder / "home")}
    told = b""
    for command in (["config", "show"], ["doctor", "--json", "-"]):
        told += CliRunner().invoke(cli, ["--config", str(file), *command], env=variables).output_bytes
    upstream = mistake.upstream.replace("SECRET", secret) if mistake.upstream else None
    with mock.patch.dict("os.environ", variables):
        return told + _start(file, upstream).encode()


def _start(file: Path, upstream: str | None) -> str:
    """Do what `insource serve` does up to its first socket."""
    with io.StringIO() as told, redirect_stdout(told), redirect_stderr(told):
        try:
            open_upstreams(Given.read(file, {}, upstream).config())
        except InsourceError as error:
            traceback.print_exception(error)
        return told.getvalue()
