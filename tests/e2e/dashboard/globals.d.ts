/** What the script of uPlot defines. */
declare var uPlot: any;
