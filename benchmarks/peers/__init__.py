"""The peers' programs: at 127.0.0.1, each says Hello world at / and has files at /static."""
