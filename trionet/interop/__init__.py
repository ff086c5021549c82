"""Where trionet meets other libraries of the Trio ecosystem: `trionet.interop.trio_websocket`."""
