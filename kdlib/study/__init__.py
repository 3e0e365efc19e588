"""A study: what is trained, where it is stored, and what the networks predict."""


def __getattr__(name: str):
    if name != "Study":
        raise AttributeError(name)
    from kdlib.study.study import Study  # with torch; a profile can be read without it

    return Study
