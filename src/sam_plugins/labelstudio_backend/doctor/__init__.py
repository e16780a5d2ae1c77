"""Why a backend is connected and nothing happens: each cause found, its cure told or done."""
