"""The process can't start, or the command can't do its work: it ends with a status above 0."""

from shared.errors.base import MattingError


class SetupError(MattingError):
    """The process can't start as it is configured."""

    code = "setup-failed"
    http_status = 503
    remedy = "Run `matting doctor`: it names the part and the fix."


class ModelLoadError(SetupError):
    """The model can't be loaded."""

    code = "model-load-failed"
    remedy = (
        "MATTING_MODEL must be `builtin` or a folder holding deploy.yaml, model.pdiparams and "
        "model.pdmodel or model.json."
    )


class UnsupportedTransformError(ModelLoadError):
    """deploy.yaml asks for a preprocessing step that this worker does not know."""

    code = "unsupported-transform"
    remedy = "Export the model with PaddleSeg's matting transforms only."


class EngineUnavailableError(SetupError):
    """The installed Paddle can't do what the settings ask for."""

    code = "engine-unavailable"
    remedy = (
        "Install the Paddle build for this device (see docs/operate.md, Devices) or use "
        "MATTING_DEVICE=cpu."
    )


class WarmupError(SetupError):
    """The model did not pass its check at start: no configuration gives sane results."""

    code = "warm-up-failed"


class ModelDownloadError(SetupError):
    """The model could not be fetched."""

    code = "model-download-failed"
    remedy = (
        "Run the command again: it goes on where it broke off. Behind a wall, set "
        "MATTING_MODELS_URL to a mirror or give the file with --from."
    )


class ModelChangedError(SetupError):
    """The model is not the one that was fetched before."""

    code = "model-changed"
    remedy = (
        "Ask its publisher. If the change is meant, take the model's entry out of "
        "models.lock.json and run the command again."
    )


class BadModelArchiveError(SetupError):
    """The archive does not hold a model."""

    code = "bad-model-archive"
    remedy = "Give a zip file of a PaddleSeg export: deploy.yaml, graph and weights in one folder."


class PairsNotFoundError(SetupError):
    """There are no photos with alphas to measure by."""

    code = "pairs-not-found"
    remedy = "Name them images/NAME.jpg and alphas/NAME.png, or NAME.jpg and NAME-alpha.png."


class StackError(SetupError):
    """A part of the embedded stack did not start."""

    code = "stack-start-failed"
    remedy = "Look at the log file named above."


class NoStackError(StackError):
    """No stack runs here."""

    code = "no-stack"
    remedy = "Start one with `matting up`, or set MATTING_API_URL and MATTING_API_KEY."
