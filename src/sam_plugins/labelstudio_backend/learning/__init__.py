"""Learning from what people submit in Label Studio: events, labels, training, promotion."""

from sam_plugins.labelstudio_backend.learning.learning import Learning
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.learning.training import TrainingSettings

__all__ = ["Learning", "LearningSettings", "TrainingSettings"]
