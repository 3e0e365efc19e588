"""A study: what is trained, where it is kept, and what the networks answer."""


def __getattr__(name: str):
    if name != "Study":
        raise AttributeError(name)
    from kdlib.study.study import Study  # with torch; a profile can be read without it

    return Study
