"""The second models of `matting cutout`: loaded when the first doubtful photo needs one."""

import threading
from contextlib import ExitStack, closing

from shared.options import Options
from shared.settings import Settings
from worker.inference.catalog import find_model
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.second_opinions import SecondOpinions


class SecondModels:
    """Most folders have no doubtful photo, and a model takes seconds to load. Close it after the
    pipeline.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        """`settings`: as configured. Raises ModelLoadError if the second model of these options
        does not exist.
        """
        self._settings = settings
        self._loaded: dict[str, Predictor] = {}
        self._closing = ExitStack()
        self._lock = threading.Lock()
        self.opinions = SecondOpinions(settings, self._find)
        model = self.opinions.model_for(options)
        if model is not None:
            find_model(settings.model_copy(update={"model": model}))

    def close(self) -> None:
        """Release the loaded models."""
        self._closing.close()

    def _find(self, model: str) -> Predictor:
        with self._lock:
            if model not in self._loaded:
                own = batch_sizes(self._settings.model_copy(update={"model": model}))
                predictor = load_predictor(own, warm_shapes=False)
                self._loaded[model] = self._closing.enter_context(closing(predictor))
            return self._loaded[model]
