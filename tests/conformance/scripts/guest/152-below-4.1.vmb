# Before 4.1 a channel cannot be moved: a local error, nothing sent.
case 152
side guest
version 4.0
offer relid=5
open relid=5
A> retarget relid=5 vp=1
A< error op=retarget kind=UsageError text="from 4.1"
G> silence
