"""The second opinion: another model mattes the doubtful images of a batch, and the better result is
kept.

A worker that holds both models does this within the batch. Otherwise, if another worker serves the
second model, the image goes on to that model's queue with the first matte as a small file, and the
other worker decides.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from shared.errors import MattingError
from shared.jobs import Reason
from shared.options import MODEL_NAME, Options
from shared.settings import NO_MODEL, Settings
from shared.telemetry import SECOND_OPINIONS, get_logger
from shared.tracing import StageSpan
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.imaging.arrays import Alpha
from worker.imaging.choosing import Kept, Opinion, choose, far_apart, is_doubtful
from worker.imaging.matte_metrics import measure
from worker.imaging.prepared import PreparedImage
from worker.imaging.review import reasons
from worker.pipeline.handover import prepared_as, read_handover, write_handover
from worker.pipeline.in_flight import BatchPredictor, InFlightImage
from worker.pipeline.meant_subject import meant, seen_by_network

log = get_logger(__name__)


class SecondOpinions:
    """The second models of a worker. As thread-safe as their predictors."""

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], BatchPredictor | None],
        served_elsewhere: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`find`: the warm predictor of a model; None: this worker does not hold it.
        `served_elsewhere`: whether another worker serves a model now.
        """
        self._settings = settings
        self._find = find
        self._served_elsewhere = served_elsewhere

    def model_for(self, options: Options) -> str | None:
        """The model that is asked second about a photo with these options, if any.

        MATTING_SECOND_MODEL belongs to MATTING_MODEL: a photo whose options name another model has
        a second one only if its options name that, too.
        """
        first = options.model or self._settings.model
        default = self._settings.default_second_model if first == self._settings.model else None
        second = options.second_model or default
        return None if second in (None, NO_MODEL, first) else second

    def review_meant(self, in_flight_images: Sequence[InFlightImage]) -> None:
        """Take from each alpha the subject that the options mean, and review it. The mirrored photo
        is not predicted: it would show the other subjects, too.
        """
        for one in in_flight_images:
            assert one.alpha is not None
            assert one.prepared is not None
            found = self._opinion(one, one.alpha, one.prepared)
            one.alpha, one.metrics, one.fit = found.alpha, found.metrics, found.fit
            one.outcome.review = found.reasons

    def ask_many(
        self, in_flight_images: Sequence[InFlightImage], codecs: SmallestBatchFirstPool
    ) -> None:
        """Ask about the doubtful ones of these images, which have an alpha and review reasons; each
        keeps the better result. A second model that fails changes nothing.
        """
        asked: defaultdict[str, list[InFlightImage]] = defaultdict(list)
        for one in in_flight_images:
            model = self.model_for(one.item.options)
            if model is not None and _is_doubtful(one):
                asked[model].append(one)
        for model, some in asked.items():
            predictor = self._find(model)
            if predictor is not None:
                self._ask(model, predictor, some, codecs)
            elif MODEL_NAME.fullmatch(model) and self._served_elsewhere(model):
                for one in some:
                    _forward(one, model)
            else:
                for one in some:
                    _without_second(one, model, "not-served")

    def _ask(
        self,
        model: str,
        predictor: BatchPredictor,
        images: Sequence[InFlightImage],
        codecs: SmallestBatchFirstPool,
    ) -> None:
        started, started_ns = time.perf_counter(), time.time_ns()
        preparing = [codecs.submit(one.of, _prepare, predictor, one) for one in images]
        inputs = [future.result() for future in preparing]
        alphas = predictor.predict_many(inputs)
        for one, prepared, alpha in zip(images, inputs, alphas, strict=True):
            if isinstance(alpha, MattingError):
                _without_second(one, model, "failed")
                log.warning("second-opinion-failed", item=one.item.item_id, code=alpha.code)
                continue
            assert one.alpha is not None
            assert one.prepared is not None
            assert one.metrics is not None
            first = Opinion(one.alpha, one.prepared, one.metrics, one.outcome.review, one.fit)
            _keep_better(one, first, self._opinion(one, alpha, prepared), model)
        share_ms = (time.perf_counter() - started) * 1e3 / len(images)
        for one in images:
            one.outcome.timings_ms["predict"] += share_ms
            one.outcome.stages.append(StageSpan("predict", started_ns, time.time_ns()))

    def settle_forwarded(self, in_flight_images: Sequence[InFlightImage], model: str) -> None:
        """Decide about images that another worker forwarded, and that this worker's model has
        matted now. If the first matte is missing, the second one is kept.
        """
        for one in in_flight_images:
            assert one.decoded is not None
            assert one.alpha is not None
            assert one.prepared is not None
            second = self._opinion(one, one.alpha, one.prepared)
            one.alpha, one.outcome.review = second.alpha, second.reasons
            if one.handover is None:
                continue
            try:
                found = read_handover(one.handover)
            except (OSError, ValueError) as error:
                log.warning("handover-unreadable", item=one.item.item_id, detail=str(error))
                continue
            prepared = prepared_as(found.alpha, seen_by_network(one))
            metrics = measure(found.alpha, prepared, _side_px(one))
            first = Opinion(found.alpha, prepared, metrics, found.reasons, found.fit)
            one.outcome.model = found.model
            _keep_better(one, first, second, model)

    def _opinion(self, one: InFlightImage, alpha: Alpha, prepared: PreparedImage) -> Opinion:
        alpha, fit = meant(one, alpha, prepared)
        metrics = measure(alpha, prepared, _side_px(one))
        found = reasons(metrics, self._settings)
        if fit < 1 and not {Reason.EMPTY, Reason.UNSURE}.intersection(found):
            found.append(Reason.UNSURE)
        return Opinion(alpha, prepared, metrics, tuple(found), fit)


def _keep_better(one: InFlightImage, first: Opinion, second: Opinion, model: str) -> None:
    kept = choose(first, second)
    SECOND_OPINIONS.labels(model, kept.value).inc()
    better = second if kept is Kept.SECOND else first
    one.alpha, one.prepared, one.outcome.review = better.alpha, better.prepared, better.reasons
    if kept is Kept.SECOND:
        one.outcome.model = model
        if not better.reasons and Reason.EMPTY not in first.reasons and far_apart(first, second):
            one.outcome.review = (Reason.UNSURE,)


def _is_doubtful(one: InFlightImage) -> bool:
    if not one.outcome.review:
        return False
    assert one.metrics is not None
    return is_doubtful(one.outcome.review, one.metrics.soft, one.metrics.disagreement)


def _without_second(one: InFlightImage, model: str, outcome: str) -> None:
    """Keep the first result. Later jobs don't reuse it: the second model may be there then."""
    SECOND_OPINIONS.labels(model, outcome).inc()
    one.outcome.fingerprint = None


def _forward(one: InFlightImage, model: str) -> None:
    assert one.alpha is not None
    assert one.prepared is not None
    alpha = one.prepared.without_padding(one.alpha)
    one.handover = write_handover(alpha, one.outcome.model or "", one.outcome.review, one.fit)
    one.outcome.forward_to = model
    SECOND_OPINIONS.labels(model, "forwarded").inc()


def _prepare(predictor: BatchPredictor, one: InFlightImage) -> PreparedImage:
    return predictor.prepare(seen_by_network(one), one.item.options.profile)


def _side_px(one: InFlightImage) -> int:
    return min(one.outcome.width, one.outcome.height)
