"""Views made anew from the streams or from a range of them, and compared with those that are used."""
