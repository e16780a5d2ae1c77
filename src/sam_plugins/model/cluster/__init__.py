"""Work spread over processes and machines; knows neither models nor pictures."""
