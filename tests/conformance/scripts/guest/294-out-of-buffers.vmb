# A port without buffers is tried again, ever later; what was posted meanwhile keeps its order.
case 294
side guest
version 5.3
offer relid=5
offer relid=6
port busy
A> open relid=5
A> open relid=6
T+ 10s
G> silence
port ready
T+ 3s
G> GPADL_HEADER relid=5
G> GPADL_HEADER relid=6
