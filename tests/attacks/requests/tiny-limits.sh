#: what = "limits of one of everything end the stage, not cutor"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE", "OLE", "TLE_CPU", "TLE_WALL"]
#: lacks = ["ra"]
#: [limits.run]
#: wall_time_ms = 1
#: cpu_time_ms = 1
#: memory_bytes = 1
#: processes = 1
#: stdout_bytes = 1
#: stderr_bytes = 1
#: file_size_bytes = 1
#: open_files = 1
echo ran
