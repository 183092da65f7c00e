#: what = "memory by System V segments that nobody removes"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: limits.run.memory_bytes = 67108864
import ctypes

libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for _ in range(100):
    place = libc.shmat(libc.shmget(0, 8 << 20, 0o1600), None, 0)
    ctypes.memset(place, 1, 8 << 20)
    libc.shmdt(ctypes.c_void_p(place))
