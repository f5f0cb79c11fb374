# A host link ends and its process may still signal: rescind at once, rings and relid only when it is dead.
case 177 102
version 5.3
offer host=1
open relid=1
host 1 gone
G< RESCIND_OFFER relid=1
G> GPADL_TEARDOWN relid=1 gpadl=1
G< silence
host 1 dead
G< GPADL_TORNDOWN gpadl=1
G> RELID_RELEASED relid=1
= channel 1 gone
= relids 0
