# A host that does not speak the version any more: the resume fails and can be tried again.
case 174
side guest
version 5.3
offer relid=5
A> suspend
G> UNLOAD
G< UNLOAD_COMPLETE
A> resume
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=0
A< error op=resume
= suspended
A> resume
G> INITIATE_CONTACT version=5.3
