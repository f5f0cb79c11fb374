# Whatever the bytes are, the client refuses them and goes on.
case 240 242
side guest
version 5.3
offer relid=5
G< hex ff*240
G< hex 1e000000 00000000
G< hex 02000000 00000000 05
G< hex 07000000 00000000 05000000
G< hex
= refused 5
= connected 5.3
A> open relid=5
G> GPADL_HEADER relid=5
