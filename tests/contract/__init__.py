"""What cutor takes for granted of nats-server, alone and in a cluster, and of the files in ``deploy``."""
