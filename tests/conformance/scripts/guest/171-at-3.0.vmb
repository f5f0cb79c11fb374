# From 3.0 on it is.
case 171
side guest
version 3.0
A> unload
G> UNLOAD
= unloading
G< UNLOAD_COMPLETE
A< done op=unload
= disconnected
