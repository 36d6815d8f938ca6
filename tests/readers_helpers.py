"""What the tests of all readers share."""

import random

import numpy as np

import fusionzoo
from fusionzoo.errors import FusionZooError


def damaged(content, seed, count):
    """The content cut off and with changed bytes, in many ways."""
    chance = random.Random(seed)
    for _ in range(count):
        how = chance.random()
        if how < 0.3:
            yield content[: chance.randrange(len(content))]
            continue
        changed = bytearray(content)
        # Headers and directories lie at the ends.
        reach = len(content) if how < 0.6 else min(len(content), 300)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(reach)
            changed[place if chance.random() < 0.7 else -1 - place] = chance.randrange(256)
        yield bytes(changed)


def check_damage(path, content, library, *, seed=0, count=300):
    """Each damaged file gives one clear error, or the values that the library gives as well.

    Args:
        path: of the file to write.
        content: of a file that is whole.
        library: takes the path and our reading; gives the values, or None where it cannot judge.
        seed, count: of the damaged files.

    Returns how many of them could be read.
    """
    read = 0
    for number, bad in enumerate(damaged(content, seed, count)):
        path.write_bytes(bad)
        try:
            reading = fusionzoo.open_image(path)
        except FusionZooError as error:
            said = str(error)
        else:
            said = None
        if said is not None:
            assert path.name in said, (number, said)
            assert "\n" not in said, (number, said)
            continue
        theirs = library(path, reading)
        if theirs is not None:
            np.testing.assert_array_equal(reading.values, theirs, err_msg=str(number))
        read += 1
    return read
