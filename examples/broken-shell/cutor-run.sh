echo never reached
