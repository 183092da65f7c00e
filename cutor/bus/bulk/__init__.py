"""Reading a stream as fast as this machine can: for who folds, copies or counts all of it.

The ordinary reader (`cutor.bus.reader`) makes an object of every message, in some 17 µs of CPU time each. Here a message is
an entry in each of five lists, found by one regular expression in a large buffer. In reading order: ``columns`` (what comes
of it), ``frames`` (bytes to columns, pure), ``wire`` (a connection of its own, on which nobody else waits), ``pulling``
(what is done with it), ``puller`` (in a thread), ``reader`` (the pass over the stream, in any way: it resumes, and in the end
leaves to the ordinary reader what it cannot do), ``following`` (the way of who follows a stream without end).
"""
