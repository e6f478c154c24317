"""What tests of insource.toml begin with."""

from pathlib import Path

from insource.config import Config, load

UPSTREAM = '[upstreams.o]\nbase_url = "http://localhost:1"\n'


def config(tmp_path: Path, text: str | bytes, **how: object) -> Config:
    path = tmp_path / "insource.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, **{"env": {}, **how})
