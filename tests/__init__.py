"""Tests of cutor, by kind, and what they share.

Kinds, each a package of its own:

- ``unit``: functions and small objects by themselves; no service, and no wait.
- ``property``: whatever comes, in whatever order: made-up histories, redelivery, requests and hostile frames (hypothesis).
- ``contract``: what cutor takes for granted of nats-server, alone and in a cluster, and of the files in ``deploy``.
- ``integration``: the real parts (nats-server, Docker, nsjail, Nix, DuckDB), and cutor's processes as a user starts them.
- ``fault``: processes killed at named points; ``make fault`` tries all, the tests a few.
- ``attacks``: hostile submissions, a file each with what must come of it; ``make attacks`` tries all.
- ``docs``: pages are complete, current, and their blocks run.
- ``bench``: measurements; never run as tests.

``golden`` has a body of every version of every event.

Shared by several kinds, by what they are about:

- servers: ``nats_server``, ``cluster``, ``nats_away``, ``raw_nats``, ``garbage``, ``ports``, ``reads``, ``queues``
- stacks and commands: ``live_stack``, ``bare_stack``, ``commands``, ``second_version``, ``processes``, ``files``, ``full_disk``
- roles and lives of submissions: ``scripted_roles``, ``many_lives``, ``parking``, ``served``
- containers and environments: ``child_image``, ``containers``, ``stores``, ``nix_builds``, ``cache_server``, ``docker_proxy``
- the run itself: ``conftest``, ``second_look``
"""
