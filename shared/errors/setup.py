"""Errors that end a process or a command with a non-zero exit status."""

from shared.errors.base import MattingError


class SetupError(MattingError):
    """The process cannot start with these settings."""

    code = "setup-failed"
    http_status = 503
    remedy = "Run `matting doctor`: it says which part fails and how to fix it."


class UnknownSettingError(SetupError):
    """A variable begins with MATTING_ but is no setting."""

    code = "unknown-setting"
    remedy = "Correct or remove the variable. docs/reference/settings.md lists all settings."


class WrongSettingError(SetupError):
    """The value of a setting is wrong."""

    code = "wrong-setting"
    remedy = "Correct the variable. docs/reference/settings.md says what each setting may be."


class ModelLoadError(SetupError):
    """The model cannot be loaded."""

    code = "model-load-failed"
    remedy = (
        "MATTING_MODEL must be `builtin` or a folder holding deploy.yaml, model.pdiparams and "
        "model.pdmodel or model.json."
    )


class UnsupportedTransformError(ModelLoadError):
    """deploy.yaml names a preprocessing step that the worker does not support."""

    code = "unsupported-transform"
    remedy = "Export the model again with PaddleSeg's matting transforms only."


class EngineUnavailableError(SetupError):
    """The installed Paddle does not support these settings."""

    code = "engine-unavailable"
    remedy = (
        "Install the Paddle build for this device (see docs/operate.md) or use MATTING_DEVICE=cpu."
    )


class TritonClientMissingError(SetupError):
    """The package that talks to Triton is not installed."""

    code = "triton-client-missing"
    remedy = "Install it: pip install 'matting[triton]'."


class TritonUnavailableError(EngineUnavailableError):
    """The Triton server does not answer, or does not serve the model."""

    code = "triton-unavailable"
    remedy = (
        "Start Triton, wait until its /v2/health/ready answers 200, and check MATTING_TRITON_URL "
        "(see docs/triton.md)."
    )


class TritonModelError(SetupError):
    """The Triton server holds another model than this worker."""

    code = "triton-model-differs"
    remedy = (
        "Write the model repository again with `matting models export-triton`, or give the worker "
        "the model that the server holds."
    )


class WarmupError(SetupError):
    """The model failed its check at start: no engine configuration gave correct results."""

    code = "warm-up-failed"


class ModelDownloadError(SetupError):
    """The model could not be downloaded."""

    code = "model-download-failed"
    remedy = (
        "Run the command again: it continues the download. Behind a firewall, set "
        "MATTING_MODELS_URL (for ONNX files MATTING_ONNX_MODELS_URL) to a mirror, or pass a local "
        "file with --from."
    )


class ModelChangedError(SetupError):
    """The downloaded model differs from the one in models.lock.json."""

    code = "model-changed"
    remedy = (
        "Ask the publisher whether the file changed. If so, remove the model's entry from "
        "models.lock.json and run the command again."
    )


class BadModelArchiveError(SetupError):
    """The archive does not contain a model."""

    code = "bad-model-archive"
    remedy = "Pass a zip file of a PaddleSeg export: deploy.yaml, graph and weights in one folder."


class ImportingUnavailableError(SetupError):
    """The packages that read ONNX files are not installed."""

    code = "importing-unavailable"
    remedy = "Install them: pip install 'matting[onnx]'."


class BadOnnxError(SetupError):
    """The file is not an ONNX network that computes an alpha matte from a photo."""

    code = "bad-onnx"
    remedy = "Give an ONNX file with one input [N, 3, H, W] and an output [N, 1, H, W]."


class UnsupportedOperatorError(SetupError):
    """The network uses an operator that can't be imported."""

    code = "unsupported-operator"
    remedy = "Export the network for opset 11 to 18 with standard operators, or open an issue."


class ImportDisagreesError(SetupError):
    """The imported network's results differ from onnxruntime's, so nothing was written."""

    code = "import-disagrees"
    remedy = "Open an issue that names the file's source: an operator is imported wrongly."


class ResultsAmongPhotosError(SetupError):
    """The results would lie among the photos, and the next run would take them for photos."""

    code = "results-among-photos"
    remedy = "Choose another folder for the results, for example one beside the photos' folder."


class PairsNotFoundError(SetupError):
    """The folder contains no photos with alphas."""

    code = "pairs-not-found"
    remedy = "Name them images/NAME.jpg and alphas/NAME.png, or NAME.jpg and NAME-alpha.png."


class StackError(SetupError):
    """A part of the embedded stack did not start."""

    code = "stack-start-failed"
    remedy = "Read the log file in the data folder (`matting up --data FOLDER` keeps it)."


class PortInUseError(StackError):
    """The port is used by another program."""

    code = "port-in-use"
    remedy = "Choose another port with --port, or stop the program that uses it."


class StackRunningError(StackError):
    """The embedded stack is running on this data folder already."""

    code = "stack-running"
    remedy = "Use that one, stop it with Ctrl-C, or pass --data FOLDER to start another."


class DataDamagedError(StackError):
    """A file of the embedded stack's data folder can't be read."""

    code = "data-damaged"
    remedy = "Put back a copy of the data folder, or name another one with --data."


class NoDatabaseError(StackError):
    """There is no database of the service."""

    code = "no-database"
    remedy = (
        "Start a system with `matting up`, name its folder with --data, or set "
        "MATTING_DATABASE_URL and run `matting migrate`."
    )


class NoStackError(StackError):
    """No stack is running for this data folder."""

    code = "no-stack"
    remedy = "Start one with `matting up`, or set MATTING_API_URL and MATTING_API_KEY."
