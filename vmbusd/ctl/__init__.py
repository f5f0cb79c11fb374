"""The administrator's command, `vmbusctl`: asks the daemon over its admin socket and shows the answer."""
