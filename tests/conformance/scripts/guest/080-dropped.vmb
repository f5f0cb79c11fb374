# An application that lets go of an open channel has it closed; after the rescind the relid is released.
case 080 138
side guest
version 5.3
offer relid=5
open relid=5
A> drop relid=5
A< detach relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
G< RESCIND_OFFER relid=5
A< gone relid=5
G> RELID_RELEASED relid=5
G< OFFER_CHANNEL relid=5
A< offered relid=5
