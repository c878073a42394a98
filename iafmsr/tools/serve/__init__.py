"""A page on which a picture is dropped and seen before and after, with the map that guided the net."""
