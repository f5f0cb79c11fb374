# A host of 2.4 is not told that the guest leaves.
case 171
side guest
version 2.4
offer relid=5
open relid=5
A> unload
A< detach relid=5
A< done op=unload
G> silence
= disconnected
= channels 0
