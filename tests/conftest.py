"""Settings shared by all tests."""

from hypothesis import settings

# No deadline: a first call imports and compiles. Derandomised: the same commit gives the same verdict.
settings.register_profile("indeed", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("indeed")
