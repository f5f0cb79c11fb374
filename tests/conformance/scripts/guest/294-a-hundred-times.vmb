# After the hundredth try, which is about three minutes later, the operation fails.
case 294
side guest
version 5.3
offer relid=5
port busy
A> open relid=5
T+ 2min
G> silence
= channel 5 opening
T+ 1min
A< free relid=5
A< error op=open kind=ResourceError
= channel 5 closed
port ready
A> open relid=5
G> GPADL_HEADER relid=5
