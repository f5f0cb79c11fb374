# A host that does not come back has its channels rescinded; who offers them again is heard after the release.
case 205
version 5.3
offer instance=1
offer instance=2 host=1
open relid=1
save
restore
host 1 gone
G< RESCIND_OFFER relid=2
host 1 dead
host 2 attach
H2> offer instance=2
G< silence
= channel 2 reoffered
G> RELID_RELEASED relid=2
G< OFFER_CHANNEL relid=2 instance=2
= channel 1 open
