from tests.contracts.prediction import HEAD, LAYERS, PredictionContract
from tidemill.actors.actor import Actor
from tidemill.actors.predictor.actor import PredictorActor
from tidemill.actors.predictor.config import PredictorConfig


class TestDense(PredictionContract):
    def make(self) -> Actor:
        return PredictorActor(PredictorConfig(layer_ranges=(LAYERS,), head_range=HEAD))
