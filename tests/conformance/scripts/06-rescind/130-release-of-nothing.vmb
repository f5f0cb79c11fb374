# A relid that nobody has cannot be released, nor twice.
case 130
version 5.3
offer
G> RELID_RELEASED relid=0
G> RELID_RELEASED relid=2
G> RELID_RELEASED relid=0xFFFFFFFF
= refused 3
revoke relid=1
G< RESCIND_OFFER relid=1
G> RELID_RELEASED relid=1
= refused 3
G> RELID_RELEASED relid=1
= refused 4
