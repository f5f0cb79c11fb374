# A rescinded channel cannot be opened; nothing is sent.
case 140
side guest
version 5.3
offer relid=5
G< RESCIND_OFFER relid=5
A> open relid=5
A< error op=open kind=ChannelGone
A> retarget relid=5 vp=1
A< error op=retarget kind=ChannelGone
G> silence
