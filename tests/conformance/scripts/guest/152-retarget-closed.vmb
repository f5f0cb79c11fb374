# A channel that is not open has nothing to move.
case 152
side guest
version 5.3
offer relid=5
A> retarget relid=5 vp=2
A< error op=retarget kind=UsageError
G> silence
