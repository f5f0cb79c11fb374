# A re-open that waits is forgotten with the channel.
case 125
version 5.3
offer
open relid=1
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> OPEN_CHANNEL relid=1
revoke relid=1
G< RESCIND_OFFER relid=1
G> RELID_RELEASED relid=1
= channels 0
