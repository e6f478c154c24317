"""What the command line's tests share: a way to run it, and a home with real specialists in it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import insource
from insource.answers import learn_answers
from insource.backends.specialist import write_specialist
from insource.cli.main import cli
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.students.linear import LinearStudent
from insource.types import Calibration

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TEXTS = ("my card was stolen", "card lost again", "where is my refund", "refund not here") * 8
ANSWERS = ("card", "card", "refund", "refund") * 8
CERTIFIED = Calibration("cross-fit", 0.05, 0.95, 400, 0.42, 0.8, 320, 3, 0.03, 0.9)
NOT_CERTIFIED = Calibration("cross-fit", 0.05, 0.95, 40, None, 0.0, 0, 0, None, 0.9, notes=("19 rows are lacking",))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Runs the command line in an empty folder with its own home, in this process."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INSOURCE_")]:
        monkeypatch.delenv(name)
    runner = CliRunner()

    def invoke(*arguments: object, home: Path | None = home) -> SimpleNamespace:
        chosen = ("--home", str(home)) if home is not None else ()
        result = runner.invoke(cli, [*chosen, *map(str, arguments)])
        return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)

    return invoke


@pytest.fixture
def process(tmp_path: Path, home: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command line as people do, in a process of its own."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run(command(*arguments), cwd=tmp_path, env=environment(home), capture_output=True, text=True,
                              **options)  # fmt: skip

    return call


@pytest.fixture
def started(tmp_path: Path, home: Path) -> Callable[..., subprocess.Popen]:
    """Starts the command line in a process of its own and returns it; what is left at the end is killed."""
    running: list[subprocess.Popen] = []

    def start(*arguments: object) -> subprocess.Popen:
        running.append(
            subprocess.Popen(command(*arguments), cwd=tmp_path, env=environment(home), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        )  # fmt: skip
        return running[-1]

    yield start
    for child in running:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def command(*arguments: object) -> list[str]:
    entry = "from insource.cli.main import main; main()"
    return [sys.executable, "-W", "error", "-c", entry, *map(str, arguments)]


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INSOURCE_")}
    root = str(Path(insource.__file__).parents[1])
    return {**kept, "INSOURCE_HOME": str(home), "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def specialist(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Commits a small linear specialist into a home and returns its digest."""
    student = LinearStudent()
    space = learn_answers(ANSWERS)
    counts = student.prepare(TEXTS)
    classes = np.array([space.index(answer) for answer in ANSWERS])
    student.fit(counts, np.arange(len(TEXTS)), classes, len(space))
    probabilities = student.probabilities(counts, np.arange(len(TEXTS)))
    scorer = Scorer.fit(probabilities, np.arange(len(TEXTS)) % 5 > 0)

    def commit(home: Path) -> str:
        store = ArtifactStore(home)
        with store.draft() as folder:
            told = student.to_artifact(folder)
            manifest = write_specialist(folder, task="triage", family="linear", model=told, scorer=scorer,
                                        answers=space, inputs=InputSettings(), trunk=None)  # fmt: skip
            return store.commit(folder, manifest)

    return commit


@pytest.fixture
def registered(home: Path, specialist: Callable[[Path], str]) -> Callable[..., int]:
    """Registers the small specialist under a task with a calibration, and returns the version's number."""

    def register(task: str = "triage", calibration: Calibration | None = CERTIFIED) -> int:
        digest = specialist(home)
        with Registry.open(home) as registry:
            lineage = {"rows": {"train": 32}, "file": "may.jsonl", "share": 0.123456}
            return registry.register(task, "linear", digest, calibration, lineage, NOON).version

    return register


@pytest.fixture
def damage(home: Path) -> Callable[[], None]:
    """Flips a byte of every artifact's model."""

    def flip() -> None:
        for path in (home / "artifacts").glob("*/score.safetensors"):
            path.chmod(0o600)
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

    return flip


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    """A traffic file with two texts, one of them without an answer."""
    path = tmp_path / "may.jsonl"
    lines = [{"text": "where is my card?", "answer": "card"}, {"text": "who are you?"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
