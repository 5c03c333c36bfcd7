"""The warm predictor: models, engine plans, sessions, input shapes, trials, tuning."""
