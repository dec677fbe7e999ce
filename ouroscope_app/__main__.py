"""`python -m ouroscope_app` is the command line `ouroscope`."""

from ouroscope_app.main import main

if __name__ == "__main__":
    main()
