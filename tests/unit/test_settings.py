"""Settings: what is empty is not set, and a misspelt variable is refused with the nearest name."""

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from shared.errors import UnknownSettingError, WrongSettingError
from shared.settings import Settings


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = name.upper() if name.startswith("aws_") else f"MATTING_{name.upper()}"
    monkeypatch.setenv(variable, "")
    assert getattr(Settings(), name) == Settings.model_fields[name].get_default(
        call_default_factory=True
    )


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("MATTING_RETENTION_DAY", "MATTING_RETENTION_DAYS"),
        ("MATTING_SOURCEBUCKETS", "MATTING_SOURCE_BUCKETS"),
        ("MATTING_S3_REGOIN", "MATTING_S3_REGION"),
        ("matting_batchsize", "MATTING_BATCH_SIZE"),
        ("MATTING_METRICS_PORT", "MATTING_WORKER_METRICS_PORT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(
    misspelt: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(misspelt, "a-secret-value")
    with pytest.raises(UnknownSettingError) as caught:
        Settings()
    assert f"{misspelt.upper()} is not a setting. Did you mean {meant}? C" in caught.value.message
    assert "a-secret-value" not in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MATTING_BATCH_SIZE", "a-secret", "MATTING_BATCH_SIZE must be a whole number."),
        ("MATTING_BATCH_SIZE", "0", "MATTING_BATCH_SIZE must be at least 1."),
        ("MATTING_PRECISION", "a-secret", "MATTING_PRECISION is not one of auto, fp32,"),
        ("MATTING_THUMBNAILS", "a-secret", "MATTING_THUMBNAILS must be true or false."),
    ],
)
def test_a_wrong_value_is_refused_in_words_that_do_not_repeat_it(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(WrongSettingError) as caught:
        Settings()
    assert caught.value.message.startswith(said)
    assert "a-secret" not in "".join(traceback.format_exception(caught.value))


def test_a_misspelt_line_of_the_env_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("MATTING_RETENTION_DAY=3\nPOSTGRES_PASSWORD=x\nMATTING_MODELS=\n")
    with pytest.raises(UnknownSettingError, match="MATTING_RETENTION_DAYS"):
        Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MATTING_API_URL", "http://127.0.0.1:8000"),
        ("MATTING_API_KEY", "mtk_x"),
        # what Kubernetes sets for the Services matting-api and matting-flower
        ("MATTING_FLOWER_SERVICE_HOST", "10.0.0.1"),
        ("MATTING_FLOWER_SERVICE_PORT", "80"),
        ("MATTING_FLOWER_SERVICE_PORT_HTTP", "80"),
        ("MATTING_API_PORT", "tcp://10.0.0.1:80"),
        ("MATTING_API_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("MATTING_API_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_variables_of_others_are_left_alone(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    Settings()


@pytest.mark.parametrize(
    "command",
    [["-c", "from deploy.cli import main; main()", "migrate"], ["-c", "import worker.app"]],
    ids=["command", "worker"],
)
def test_no_process_starts_with_a_misspelt_variable(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={"MATTING_RETENTION_DAY": "3", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "MATTING_RETENTION_DAY is not a setting. Did you mean MATTING_RETENTION_DAYS?" in said
