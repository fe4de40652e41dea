"""Python imports this on its own where it is on PYTHONPATH.

Airflow makes a million objects that stay when it starts: to look through them again and again for garbage takes a fifth of a run.
"""

import gc

gc.set_threshold(200_000, 20, 20)
