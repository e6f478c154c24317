"""An auditor's questions answered: from the ledger's rows what they prove, from elsewhere what is only told."""
