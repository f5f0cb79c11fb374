# A daemon that can pin memory says so.
case 031
option gpa-pinning
G> INITIATE_CONTACT version=6.0 features=GPA_PINNING
G< VERSION_RESPONSE supported=1 features=GPA_PINNING
