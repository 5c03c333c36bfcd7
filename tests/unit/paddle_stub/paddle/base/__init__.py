"""The parts of paddle.base that are used."""
