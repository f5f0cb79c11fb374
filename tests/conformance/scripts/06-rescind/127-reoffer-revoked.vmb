# A re-offer that goes before the release leaves no trace.
case 127
version 5.3
offer instance=1
revoke relid=1
G< RESCIND_OFFER relid=1
H> offer id=7 instance=1
H> revoke id=7
G< silence
G> RELID_RELEASED relid=1
G< silence
= channels 0
