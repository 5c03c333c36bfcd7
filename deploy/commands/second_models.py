"""The second models of `matting cutout`: loaded when the first doubtful photo needs one."""

import threading
from contextlib import ExitStack, closing

from deploy.commands.progress import console
from deploy.terminal_text import escape
from shared.errors import MattingError
from shared.options import Options
from shared.settings import Settings
from worker.inference.catalog import find_model
from worker.inference.engine import one_stream
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.second_opinions import SecondOpinions

FEW_PHOTOS = 16
"""Another network of U²-NetP takes a second to open, and on two cores saves a tenth of one for each
doubtful photo.
"""


class SecondModels:
    """Most folders have no doubtful photo, and a model takes seconds to load. Close it after the
    pipeline.
    """

    def __init__(self, settings: Settings, options: Options, photos: int) -> None:
        """`settings`: as configured. `photos`: how many the run has. Raises ModelLoadError if the
        second model of these options does not exist.
        """
        self._settings, self._few = settings, photos <= FEW_PHOTOS
        self._loaded: dict[str, Predictor | None] = {}
        """None: it can't be loaded, as was said."""
        self._closing = ExitStack()
        self._lock = threading.Lock()
        self.opinions = SecondOpinions(settings, self._find)
        model = self.opinions.model_for(options)
        if model is not None:
            find_model(settings.model_copy(update={"model": model}))

    def close(self) -> None:
        """Release the loaded models."""
        self._closing.close()

    def _find(self, model: str) -> Predictor | None:
        """The model; None: it can't be loaded, and the first results stand with their marks."""
        with self._lock:
            if model not in self._loaded:
                self._loaded[model] = self._load(model)
            return self._loaded[model]

    def _load(self, model: str) -> Predictor | None:
        # It takes seconds, and longer the first time on a machine, where its configuration is tried
        console.print(f"loading the model {escape(model)} for doubtful photos …", soft_wrap=True)
        try:
            own = batch_sizes(self._settings.model_copy(update={"model": model}))
            if self._few:
                own = one_stream(own)
            predictor = load_predictor(own, warm_shapes=False)
        except MattingError as error:
            text = escape(f"the second model {model}: {error.message} [{error.code}]")
            console.print(
                f"[yellow]without[/] {text} Doubtful photos keep their first result.",
                soft_wrap=True,
            )
            return None
        return self._closing.enter_context(closing(predictor))
