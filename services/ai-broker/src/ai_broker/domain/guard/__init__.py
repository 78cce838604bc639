"""
Personal data stays here: masked on the way to vendors, put back on the way home.

    policy      what a tenant wants, read from a file
    folding     one spelling for what looks alike, with the way back to the original
    checksums   numbers that prove themselves
    detectors   where in a text personal data stands
    vault       one request's placeholders and what they stand for
    request     every text of a request that leaves to a vendor, masked
    restoring   an answer in pieces, its placeholders replaced as they complete
"""
