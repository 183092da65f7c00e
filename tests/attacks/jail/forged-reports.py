#: what = "forged reports on every descriptor there could be: the program does not speak for itself"
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
#: exit_code = 7
import json
import os
import socket
import struct
import sys

frame = json.dumps({"type": "report", "kind": "run", "index": 0, "exit_code": 0, "outcome": "OK"}).encode()
ended = struct.pack("=IiQ", 4, 0, 1)
for descriptor in range(3, 1024):
    for message in (ended, struct.pack(">I", len(frame)) + frame, frame + b"\n"):
        try:
            os.write(descriptor, message)
            print("REACHED", descriptor)
        except OSError:
            pass
        try:
            socket.socket(fileno=os.dup(descriptor)).send(message)
            print("REACHED socket", descriptor)
        except OSError:
            pass
for descriptor in (1, 2):
    os.write(descriptor, struct.pack(">I", len(frame)) + frame + ended)
for descriptor in os.listdir("/proc/self/fd"):
    try:
        os.write(os.open(f"/proc/1/fd/{descriptor}", os.O_RDWR), ended)
        print("REACHED process 1")
    except OSError:
        pass
sys.stdout.flush()
os._exit(7)
