"""Learning from what people submit: events, labels, trainings, promotion."""
