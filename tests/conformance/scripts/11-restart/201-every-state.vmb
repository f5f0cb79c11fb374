# Channels of every state come back as they were, also those that the guest does not know (yet): hosts live on.
case 201
option manual-claims
version 5.3
offer instance=1
offer instance=2
offer instance=3
offer instance=4
offer instance=5
offer instance=6
offer instance=7
offer instance=8
gpadl relid=2
open relid=3
open relid=4
open relid=5
open relid=8
G> CLOSE_CHANNEL relid=4
H< close relid=4
G> CLOSE_CHANNEL relid=5
H< close relid=5
G> OPEN_CHANNEL relid=5 open_id=55
revoke relid=6
G< RESCIND_OFFER relid=6
revoke relid=7
G< RESCIND_OFFER relid=7
H> offer id=17 instance=7
G> CLOSE_CHANNEL relid=8
H< close relid=8
G> RELID_RELEASED relid=8
H< teardown relid=8 gpadl=8
G> OPEN_CHANNEL relid=2
H< open relid=2
= channels 8
save
restore
= connected 5.3
= channel 1 closed
= channel 2 opening
= channel 3 open generation=1
= channel 4 closing
= channel 5 closing_reopen
= channel 6 revoked
= channel 7 reoffered
= channel 8 closing_client_release
silence
# The relid that nobody knows any more is free when device and claim are done with it, and offered again.
claim_free 8
H> close relid=8
H> teardown relid=8
= channel 8 gone
claim_free 5
H> close relid=5
H< open relid=5 open_id=55
G> RELID_RELEASED relid=7
G< OFFER_CHANNEL relid=7
